module github.com/sealpost/sealpost

go 1.26.0
