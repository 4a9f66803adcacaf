FROM --platform=$BUILDPLATFORM other AS one
RUN one
FROM other
COPY --from=one /bin/sh /x
RUN two

# An image for another platform.
# build: --build-context other=docker-image://multi --platform linux/arm64
