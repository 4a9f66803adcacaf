FROM base AS tools
RUN tools
FROM trigger-from
COPY --from=tools /bin/sh /own

# What needs a stage of that name.
