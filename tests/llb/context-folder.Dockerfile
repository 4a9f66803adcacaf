FROM base
COPY --from=other a /x/

# A folder as a context.
# build: --build-context other={folder}
