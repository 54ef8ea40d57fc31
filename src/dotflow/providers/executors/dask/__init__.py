"""The executor on Dask."""
