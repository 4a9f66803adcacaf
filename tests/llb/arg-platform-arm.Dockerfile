FROM multi AS last
ARG TARGETPLATFORM TARGETARCH TARGETVARIANT TARGETSTAGE=x
RUN $TARGETARCH

# The same for another platform.
# build: --platform linux/arm64/v8
