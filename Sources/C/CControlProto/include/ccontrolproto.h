// The messages of Protos/ as protoc-c generates them (scripts/generate-protos), and the library's own types.
#pragma once

#include <protobuf-c/protobuf-c.h>

#include "pop/control/v1/control.pb-c.h"
#include "pop/data/v1/data.pb-c.h"

// Swift takes a C global for a variable that another thread may change; these are constants.
static inline const ProtobufCMessageDescriptor *pop__control__v1__control_message__descriptor_pointer(void) {
    return &pop__control__v1__control_message__descriptor;
}
static inline const ProtobufCMessageDescriptor *pop__data__v1__data_hello__descriptor_pointer(void) {
    return &pop__data__v1__data_hello__descriptor;
}
static inline const ProtobufCMessageDescriptor *pop__data__v1__data_hello_ack__descriptor_pointer(void) {
    return &pop__data__v1__data_hello_ack__descriptor;
}
static inline const ProtobufCMessageDescriptor *pop__data__v1__stream_header__descriptor_pointer(void) {
    return &pop__data__v1__stream_header__descriptor;
}
