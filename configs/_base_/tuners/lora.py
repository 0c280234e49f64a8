tuner = dict(
    type='HFPeft', peft_type='LORA', r=16, lora_alpha=16, target_modules=['attn.qkv', 'attn.proj']
)
