FROM --platform=linux/arm64 multi AS arm64
COPY a /
FROM base
COPY --from=arm64 /a /

# A platform that is written down.
