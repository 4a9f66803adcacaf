FROM base
ARG TARGETARCH
RUN $TARGETARCH

# Arguments that tell platforms, changed.
# build: --build-arg TARGETARCH=mine
