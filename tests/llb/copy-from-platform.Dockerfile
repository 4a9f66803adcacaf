FROM --platform=$BUILDPLATFORM multi AS tools
RUN x
FROM multi
COPY --from=tools /bin/sh /sh
COPY --from=multi:latest /bin/sh /sh2

# From a stage on another platform.
# build: --platform linux/arm64
