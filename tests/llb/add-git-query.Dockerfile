FROM base
ADD {git}/repo.git?branch=main&subdir=sub /x/

# The same as a query.
