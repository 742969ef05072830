# whole
echo '{"inputs": "What is deep learning?", "parameters": {"max_new_tokens": 16}}' > request.json
aws sagemaker-runtime invoke-endpoint --endpoint-name llama2-7b-throughput \
    --content-type application/json --body fileb://request.json answer.json

# refused
echo '{"inputs": "Hi", "parameters": {"top_p": 2}}' > refused.json
aws sagemaker-runtime invoke-endpoint --endpoint-name llama2-7b-throughput \
    --content-type application/json --body fileb://refused.json refusal.json

# stream
aws sagemaker-runtime invoke-endpoint-with-response-stream --endpoint-name llama2-7b-throughput \
    --content-type application/json --body fileb://request.json stream.json
