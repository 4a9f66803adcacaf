FROM base AS one
RUN one
FROM base
COPY --from=one /bin/sh /1
RUN two

# Nothing of one stage.
# build: --no-cache-filter one
