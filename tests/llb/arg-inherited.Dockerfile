FROM base AS one
ARG A=1
FROM one
RUN $A

# A stage takes over the arguments of its base.
