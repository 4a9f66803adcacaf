FROM --platform=$BUILDPLATFORM multi
RUN x

# The platform of the machine that builds.
# build: --platform linux/arm64
