FROM base AS One
RUN one
FROM one AS TWO
RUN two

# A stage is found by its name in lower case.
