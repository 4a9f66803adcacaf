FROM --platform=linux/arm64 multi AS arm
FROM arm
RUN x

# A stage takes over the platform of its base.
