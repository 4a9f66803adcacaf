FROM base
RUN --mount=type=secret,id=x,required one

# One that must be there.
# build: --secret id=x,src=a
