FROM nowhere
RUN one

# An image for an image.
# build: --build-context nowhere=docker-image://base
