FROM base AS one
RUN same
FROM base AS two
RUN same
FROM scratch
COPY --from=one /bin /1
COPY --from=two /bin /2

# Equal steps of two stages are one.
