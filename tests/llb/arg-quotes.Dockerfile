FROM base
ENV A="a b" B='$A' C="\$A" D=a\ b E="$A"
ENV old a  b 'c'
RUN one

# Quotes and escapes.
