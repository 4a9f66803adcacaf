FROM base
COPY --chmod=u+x a /1
COPY --chmod=go-w,u=rwX a /2
COPY --chmod=g=u a /3

# Modes as letters.
