# escape=`
FROM base
ENV A=`$X B=\b
COPY a \x
RUN one `
  two

# Another escape character.
