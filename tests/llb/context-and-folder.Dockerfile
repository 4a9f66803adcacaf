FROM base
COPY a /1
COPY --from=other a /2

# The context beside another one.
# build: --build-context other={folder}
