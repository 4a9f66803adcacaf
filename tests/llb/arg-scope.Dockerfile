ARG A=1
FROM base
RUN $A
ARG A
RUN $A

# An ARG before FROM must be declared again.
