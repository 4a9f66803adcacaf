FROM base
WORKDIR /
RUN one

# The root needs no step.
