FROM base
RUN one

# Limits.
# build: --ulimit nofile=1024:2048
