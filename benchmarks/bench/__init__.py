"""What the benchmarks share: processes and their CPU time, loads, mock upstreams, figures and their page."""
