FROM base AS other
RUN never
FROM other AS more
COPY a /z
FROM scratch
COPY --from=more /z /

# What begins with such a stage.
# build: --build-context other={folder}
