"""How it is computed: one op = contract, PyTorch reference and Triton kernel. Imports neither PyTorch nor Triton.

    op            module          what it does
    layout        layout.py       where packed sequences lie: positions, and the block map of the attention
    pack          pack.py         query ids + rows of the token store → packed pairs, cut as the tokenizer cuts
    embed_norm    embed_norm.py   word + position + segment rows, LayerNorm
    rope          rope.py         rotary positions of queries and keys, behind a norm of each head
    attention     attention.py    attention over packed sequences, whole, causal or in a window; single_attention: one
                                  token of each asks
    add_norm      add_norm.py     residual + bias, LayerNorm
    pre_norm      pre_norm.py     residual kept in float32, LayerNorm or RMSNorm of it
    linear_gelu   linear_gelu.py  matrix product + bias, exact GELU
    gated         gated.py        GeGLU, SwiGLU
    pool          pool.py         mean of each sequence, unit length
    scan          scan.py         exact search over fp16 vectors without a score matrix
    topk          topk.py         final score of candidates, the best of them

Each `<op>.py` has the shapes, the reference (which is the CPU path and the oracle of the kernel's tests) and the public
function; `<op>_triton.py` has the kernel and its launch rule and is imported when a CUDA tensor first comes by. Every
output may be passed in, and nothing synchronises with the host, so a CUDA graph can hold any of them.
"""
