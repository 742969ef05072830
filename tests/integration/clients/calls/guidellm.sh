# chat_stream
llama="from inf2kit import Endpoint; openai = Endpoint('llama2-7b-throughput').openai(lifetime_s=3600)"
url=$(python -c "$llama; print(openai['base_url'])")
token=$(python -c "$llama; print(openai['api_key']())")
for _ in 1 2 3; do echo '{"prompt": "Hi"}'; done > prompts.jsonl
cat > backend.json <<END
{"kind": "openai_http", "target": "$url", "api_key": "$token", "model": "any", "max_tokens": 16,
 "validate_backend": false}
END
guidellm run --backend "$(cat backend.json)" --profile kind=concurrent,streams=2 \
    --constraint kind=max_requests,count=3 --data kind=json_file,path=prompts.jsonl \
    --output kind=json,path=report.json --disable-console
