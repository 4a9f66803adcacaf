FROM base AS one
RUN one
FROM one
RUN two

# A stage that begins with another.
