FROM --platform=$BUILDPLATFORM scratch
COPY --from=multi /bin /bin
RUN x

# Nothing is for the platform that is built for.
# build: --platform linux/arm64
