FROM base AS other
RUN never
FROM other
COPY a /

# Nothing for a stage.
# build: --build-context other=docker-image://scratch
