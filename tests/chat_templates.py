"""Chat templates as published models have them, shortened."""

# DeepSeek-R1's template in short: it deletes the thought of assistant turns.
R1_TEMPLATE = (
    "{% for m in messages %}{% if m['role'] == 'user' %}<|user|>{{ m['content'] }}{% endif %}"
    "{% if m['role'] == 'assistant' %}<|assistant|>{{ m['content'].split('</think>')[-1] }}<|end|>{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
# Its later version opens the thought in the generation prompt.
R1_PREFILL_TEMPLATE = R1_TEMPLATE.replace("%}<|assistant|>{% endif %}", "%}<|assistant|><think>\n{% endif %}")
# A hybrid model: without thinking the generation prompt holds an empty thought.
HYBRID_TEMPLATE = R1_TEMPLATE.replace(
    "%}<|assistant|>{% endif %}",
    "%}<|assistant|>{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}"
    "{% endif %}",
)
