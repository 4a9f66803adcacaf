FROM base
ENV A=1 B=2
ENV A=3
RUN one
ENV FROM_BASE=2
RUN two

# The order of variables.
