# syntax=docker/dockerfile:1
# Images of POP Node: `node` (the last stage), `device`, and `tools` (popctl, development certificates).
#
#   docker build --tag pop-node .
#   docker build --tag pop-device --target device .

ARG SWIFT_VERSION=6.2
ARG DEBIAN=bookworm

FROM swift:${SWIFT_VERSION}-${DEBIAN} AS build
WORKDIR /source
# The packages that everything is tested with, before the sources: a change of the code leaves this layer alone.
COPY scripts/setup scripts/setup
RUN scripts/setup && rm -rf /var/lib/apt/lists/*
COPY Package.swift ./
COPY Sources Sources
COPY Tests Tests
RUN for product in pop-node pop-device popctl; do \
        swift build --configuration release --static-swift-stdlib --product "$product" || exit 1; \
        install -D --strip --target-directory /out/bin ".build/release/$product"; \
    done
# The packages whose libraries the programs link to, in the versions they were built with, and where those come from.
# What encrypts faster is looked for at the start and may be missing: there is none for some processors.
RUN mkdir --parents /out/sources \
    && find /etc/apt/sources.list.d -name 'pop-node-*' -exec cp --target-directory /out/sources {} + \
    && ldd /out/bin/* | awk '$2 == "=>" && $3 ~ /^\// { print $3 }' | sort --unique \
        | xargs --max-args 1 realpath | xargs dpkg-query --search | cut --delimiter : --fields 1 | sort --unique \
        | xargs dpkg-query --show --showformat '${Package}=${Version}\n' > /out/packages \
    && { dpkg-query --show --showformat '${Package}=${Version}\n' 'libipsec-mb1' >> /out/packages || true; }

FROM debian:${DEBIAN}-slim AS runtime
COPY --from=build /out/sources/ /etc/apt/sources.list.d/
COPY --from=build /out/packages /usr/share/pop-node/packages
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends --allow-downgrades \
        ca-certificates $(cat /usr/share/pop-node/packages) \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --user-group --home-dir /var/lib/pop-node --create-home pop-node \
    && useradd --system --uid 10002 --user-group --home-dir /nonexistent --no-create-home pop-device

FROM runtime AS device
COPY --from=build /out/bin/pop-device /usr/bin/
USER pop-device
ENTRYPOINT ["/usr/bin/pop-device"]
CMD ["run", "--config", "/etc/pop-device/pop-device.json", "--log-format", "json"]

FROM runtime AS tools
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends openssl \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /out/bin/popctl /usr/bin/
COPY scripts/make-development-ca /usr/bin/
USER pop-node
ENTRYPOINT ["/usr/bin/popctl"]

FROM runtime AS node
COPY --from=build /out/bin/pop-node /out/bin/popctl /usr/bin/
USER pop-node
VOLUME /var/lib/pop-node
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/bin/pop-node"]
CMD ["serve", "--config", "/etc/pop-node/pop-node.json", "--log-format", "json"]
