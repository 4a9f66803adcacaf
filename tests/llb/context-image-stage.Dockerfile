FROM base AS other
RUN never
FROM other
RUN one

# An image for a stage.
# build: --build-context other=docker-image://full
