#include "ccontrolproto.h"
