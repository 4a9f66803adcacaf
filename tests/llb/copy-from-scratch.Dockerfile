FROM base
COPY --from=scratch /* /x/

# From nothing.
