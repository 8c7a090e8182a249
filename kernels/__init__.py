"""How it is computed: one op = contract, PyTorch reference and Triton kernel. Imports neither PyTorch nor Triton.

    op            module          what it does
    layout        layout.py       where packed sequences lie: positions, and the block map of the attention
    pack          pack.py         query ids + rows of the token store → packed pairs, cut as the tokenizer cuts
    embed_norm    embed_norm.py   word + position + segment rows, LayerNorm
    attention     attention.py    bidirectional attention over packed sequences; first_attention: token 0 asks alone
    add_norm      add_norm.py     residual + bias, LayerNorm
    linear_gelu   linear_gelu.py  matrix product + bias, exact GELU
    pool          pool.py         mean of each sequence, unit length
    scan          scan.py         exact search over fp16 vectors without a score matrix
    topk          topk.py         final score of candidates, the best of them

Each `<op>.py` has the shapes, the reference (which is the CPU path and the oracle of the kernel's tests) and the public
function; `<op>_triton.py` has the kernel and its launch rule and is imported when a CUDA tensor first comes by. Every
output may be passed in, and nothing synchronises with the host, so a CUDA graph can hold any of them.
"""
