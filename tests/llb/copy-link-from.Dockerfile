FROM base AS one
RUN x
FROM base
COPY --link --from=one /bin/sh /sh
COPY --link --from=one /etc /etc2

# From a stage.
