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
# What follows is the end of published templates, with their white space: where the modes part.
_TURNS = (
    "{%- for message in messages %}{{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}"
    "{%- endfor %}\n"
)
# Qwen2.5 knows no thoughts.
QWEN2_5_TEMPLATE = _TURNS + "{%- if add_generation_prompt %}\n    {{- '<|im_start|>assistant\\n' }}\n{%- endif %}\n"
QWEN3_TEMPLATE = _TURNS + (
    "{%- if add_generation_prompt %}\n    {{- '<|im_start|>assistant\\n' }}\n"
    "    {%- if enable_thinking is defined and enable_thinking is false %}\n"
    "        {{- '<think>\\n\\n</think>\\n\\n' }}\n    {%- endif %}\n{%- endif %}"
)
# The switch has another name, its default is off, and the thought is closed without having been opened.
DEEPSEEK_V3_1_TEMPLATE = (
    "{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}{% endif %}"
    "{% if not thinking is defined %}{% set thinking = false %}{% endif %}"
    "{%- for message in messages %}"
    "{%- if message['role'] == 'user' %}{{'<｜User｜>' + message['content']}}{%- endif %}"
    "{%- if message['role'] == 'assistant' %}"
    "{{'<｜Assistant｜></think>' + message['content'].split('</think>')[-1] + '<|end|>'}}{%- endif %}{%- endfor -%}"
    "{%- if add_generation_prompt %}{{'<｜Assistant｜>'}}{%- if not thinking %}{{'</think>'}}{%- else %}{{'<think>'}}"
    "{%- endif %}{% endif %}"
)
# The mode stands in the user's turn as well.
GLM_4_5_TEMPLATE = (
    "{% for m in messages %}{%- if m.role == 'user' -%}<|user|>\n{{ m.content }}\n"
    "{{- '/nothink' if (enable_thinking is defined and not enable_thinking and not m.content.endswith('/nothink')) "
    "else '' -}}\n{%- elif m.role == 'assistant' -%}\n<|assistant|>\n{{ m.content }}<|end|>{%- endif %}{% endfor %}"
    "{%- if add_generation_prompt -%}\n    <|assistant|>"
    "{{- '\\n<think></think>' if (enable_thinking is defined and not enable_thinking) else '' -}}\n{%- endif -%}\n"
)
# The thinking mode opens the thought.
QWEN3_5_TEMPLATE = QWEN3_TEMPLATE.replace(
    "    {%- endif %}\n{%- endif %}", "    {%- else %}\n        {{- '<think>\\n' }}\n    {%- endif %}\n{%- endif %}"
)
# A system turn says which mode it is; nothing is written for the model.
GRANITE_TEMPLATE = (
    "{%- if thinking %}<|system|>Think first.{% else %}<|system|>Answer.{% endif %}"
    "{%- for message in messages %}"
    "{{- '<|' + message['role'] + '|>' + message['content'] + '<|end|>\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|assistant|>' }}{%- endif %}"
)
