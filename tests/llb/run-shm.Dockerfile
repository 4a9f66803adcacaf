FROM base
RUN one

# Shared memory.
# build: --shm-size 64m
