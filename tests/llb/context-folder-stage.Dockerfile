FROM base AS other
RUN never
FROM base
COPY --from=other /a /x
COPY --from=0 /x /y

# A stage that it stands for.
# build: --build-context other={folder}
