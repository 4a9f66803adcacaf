FROM multi
COPY a /
RUN x

# What is made for another platform.
# build: --platform linux/arm64
