FROM base
COPY --link=false a /x/

# A switch that is off.
