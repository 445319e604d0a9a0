"""The App Server API: MAPs, datasets, jobs, results, and who is told of them."""
