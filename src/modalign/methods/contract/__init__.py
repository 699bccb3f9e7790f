"""Common interface of all methods: arguments, input validation, and selection of hyper-parameters."""
