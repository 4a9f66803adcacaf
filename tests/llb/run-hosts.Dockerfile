FROM base
RUN one

# Names of machines.
# build: --add-host A.example=10.0.0.1 --add-host b=::1
