FROM base
RUN one

# A host name.
# build: --build-arg BUILDKIT_SANDBOX_HOSTNAME=build
