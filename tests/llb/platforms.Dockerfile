FROM --platform=$BUILDPLATFORM multi AS tools
ARG TARGETARCH
RUN tools
FROM multi
COPY --from=tools /bin/sh /x
WORKDIR /w

# Names of steps for several platforms.
# build: --platform linux/amd64,linux/arm64
