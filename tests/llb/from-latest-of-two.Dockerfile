FROM base AS s
RUN one
FROM base AS s
RUN two
FROM s
RUN three

# Of two stages of one name the last before counts.
