FROM other
COPY a /y

# A stage that begins with it.
# build: --build-context other={folder}
