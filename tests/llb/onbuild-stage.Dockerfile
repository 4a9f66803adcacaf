FROM base AS one
ONBUILD RUN later $A
ONBUILD COPY a /
RUN one
FROM one
ARG A=1
RUN two

# What a stage wants done.
